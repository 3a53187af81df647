"""Who is trusted, and how it shows: certificates, enrolment and signing keys."""
