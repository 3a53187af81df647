-- The keys whose signatures count, and of which time. The newest certificate over a key says what it is worth: a device may
-- keep its key when it renews, and one that was stolen is not good again because an older certificate over it only gave
-- way. That one gave way (superseded) says nothing against what was signed until then; any other revocation is a word about
-- the device, and nothing that it signed before counts any more, with whatever key.
CREATE VIEW control.good_signers AS
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
                      AND (n.issued_at, n.serial) > (c.issued_at, c.serial));
GRANT SELECT ON control.good_signers TO loa_control;
