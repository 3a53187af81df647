-- A key that two devices have (a firmware that was copied with its key) could be either's signature, and stolen from one
-- would count for both where several have to agree: it counts for none.
CREATE INDEX device_certificates_by_key ON control.device_certificates (public_key);

CREATE OR REPLACE VIEW control.good_signers AS
SELECT c.device_no,
       substring(c.public_key FROM 1 FOR 8) AS kid,
       coalesce((SELECT max(b.revoked_at)
                   FROM control.device_certificates b
                  WHERE b.device_no = c.device_no
                    AND b.reason <> 'superseded'), '-infinity') AS good_from,
       coalesce(c.revoked_at, 'infinity') AS good_until
  FROM control.device_certificates c
 WHERE (c.revoked_at IS NULL OR c.reason = 'superseded')
   AND NOT EXISTS (SELECT
                     FROM control.device_certificates n
                    WHERE n.device_no = c.device_no
                      AND n.public_key = c.public_key
                      AND (n.issued_at, n.serial) > (c.issued_at, c.serial))
   AND NOT EXISTS (SELECT
                     FROM control.device_certificates o
                     JOIN control.devices d USING (device_no)
                    WHERE o.public_key = c.public_key
                      AND o.device_no <> c.device_no
                      AND o.revoked_at IS NULL
                      AND d.retired_at IS NULL);
