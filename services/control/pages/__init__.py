"""Pages for people, rendered on the server: the same facts as the API, readable on a telephone, without scripts from elsewhere."""
