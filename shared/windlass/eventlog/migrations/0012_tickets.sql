-- What tickets are made with: a dispatch carries one, and a claim of it has to bring it. The coordinators' alone.
CREATE TABLE ticket_key (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    key bytea   NOT NULL
);
INSERT INTO ticket_key (key)
SELECT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');    -- 244 bits of chance

GRANT SELECT ON ticket_key TO windlass_coordinator;
