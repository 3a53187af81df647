-- What the HTTP side needs beyond the tables of 0030: back-off after failed logins, the categories of content, a record of
-- imported trees, and a number that says when the units last changed.

-- Failed logins, by what they have in common. A key is the SHA-256 of its text, so that no guessed name is stored.
CREATE TABLE control.login_attempts (
    scope           text NOT NULL CHECK (scope IN ('login_and_origin', 'login', 'origin')),
    key_hash        bytea NOT NULL,
    failures        integer NOT NULL CHECK (failures > 0),
    last_failed_at  timestamptz NOT NULL,
    PRIMARY KEY (scope, key_hash)
);
CREATE INDEX login_attempts_by_age ON control.login_attempts (last_failed_at);

-- Essential-information categories (R-08; Decree 49/2024, article 6), maintained by the province. exchange_code is the
-- LoaiLinhVuc that field implementations use towards the central system (regulation.md 4.2); NULL where none fits.
CREATE TABLE control.subject_fields (
    code           text PRIMARY KEY,
    position       smallint NOT NULL UNIQUE,
    name_vi        text NOT NULL,
    name_en        text NOT NULL,
    exchange_code  smallint,
    is_offered     boolean NOT NULL DEFAULT true   -- old bulletins keep a category that is no longer offered
);
INSERT INTO control.subject_fields (code, position, name_vi, name_en, exchange_code) VALUES
    ('policy',    1, 'Chủ trương của Đảng, chính sách, pháp luật của Nhà nước', 'Party policy and State law', 3),
    ('direction', 2, 'Chỉ đạo, điều hành của địa phương', 'Direction by the local Party and authority', 4),
    ('projects',  3, 'Dự án, chương trình tại địa phương', 'Local projects and programmes', 4),
    ('knowledge', 4, 'Kiến thức kinh tế, văn hóa, xã hội, khoa học - công nghệ',
                     'Economic, cultural, social and scientific knowledge', 5),
    ('security',  5, 'An ninh, trật tự, quốc phòng, quân sự địa phương', 'Security, order and local defence', 1),
    ('disaster',  6, 'Phòng, chống thiên tai, cứu hộ, cứu nạn, cháy nổ', 'Disasters, rescue and fire', 2),
    ('health',    7, 'Y tế, cấp cứu, phòng, chống dịch bệnh', 'Health, emergency care and epidemics', 2),
    ('examples',  8, 'Gương người tốt, việc tốt, điển hình tiên tiến', 'Good people, good deeds', 6),
    ('violations', 9, 'Phê phán, đấu tranh với hành vi vi phạm', 'Countering violations', 1),
    ('goods',    10, 'Hàng hóa, dịch vụ thiết yếu', 'Essential goods and services', 1),
    ('general',  11, 'Thông tin khác', 'Other information', 1);

ALTER TABLE control.bulletins
    ADD CONSTRAINT bulletins_subject_field_exists FOREIGN KEY (subject_field) REFERENCES control.subject_fields;

-- Which file made which tree. A later file replaces the whole tree from its day on.
CREATE TABLE control.unit_imports (
    import_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    valid_from   date NOT NULL,
    file_sha256  bytea NOT NULL,
    units        integer NOT NULL,
    imported_at  timestamptz NOT NULL,
    imported_by  uuid REFERENCES control.accounts
);

-- One row. Whoever holds the tree in memory compares the number before trusting it.
CREATE TABLE control.units_revision (
    is_only   boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    revision  bigint NOT NULL
);
INSERT INTO control.units_revision (revision) VALUES (1);

CREATE FUNCTION control.count_units_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE control.units_revision SET revision = revision + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER unit_versions_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON control.unit_versions
    FOR EACH STATEMENT EXECUTE FUNCTION control.count_units_revision();

CREATE INDEX unit_versions_by_search_text ON control.unit_versions (search_text);
CREATE INDEX audit_by_unit ON control.audit (unit_id, audit_id DESC);
CREATE INDEX media_by_time ON control.media (stored_at);

GRANT SELECT, INSERT, UPDATE, DELETE
   ON control.login_attempts, control.unit_imports, control.units_revision TO loa_control;
GRANT SELECT, INSERT, UPDATE ON control.subject_fields TO loa_control;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA control TO loa_control;
