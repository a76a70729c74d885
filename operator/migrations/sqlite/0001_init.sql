-- Times are seconds since 1970 (UTC), digests are written as sha256:<hex>, truth is 0 or 1.
-- Every row hangs on the UID of a namespace: a namespace that is made again inherits nothing.

-- One row: the number of the latest leader. A write with another number is refused.
CREATE TABLE fence (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL
);
INSERT INTO fence (id, epoch) VALUES (1, 0);

-- Bytes that the gateway verified and wrote to the artifact store.
CREATE TABLE blobs (
    namespace_uid TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    owner_uid TEXT NOT NULL,
    job_uid TEXT NOT NULL,
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (namespace_uid, digest)
);

CREATE TABLE dataset_revisions (
    seq INTEGER PRIMARY KEY,
    namespace_uid TEXT NOT NULL,
    dataset_uid TEXT NOT NULL,
    dataset TEXT NOT NULL,
    attempt_key TEXT NOT NULL,
    revision BIGINT NOT NULL,
    manifest_digest TEXT NOT NULL,
    report TEXT NOT NULL,
    recorded_at BIGINT NOT NULL,
    UNIQUE (namespace_uid, dataset_uid, attempt_key),
    FOREIGN KEY (namespace_uid, manifest_digest) REFERENCES blobs (namespace_uid, digest)
);
CREATE INDEX dataset_revisions_by_name ON dataset_revisions (namespace_uid, dataset, seq);

-- The highest version ever given: numbers are never used twice.
CREATE TABLE models (
    namespace_uid TEXT NOT NULL,
    model TEXT NOT NULL,
    last_version BIGINT NOT NULL,
    PRIMARY KEY (namespace_uid, model)
);

CREATE TABLE versions (
    namespace_uid TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL CHECK (version > 0),
    run_uid TEXT NOT NULL,
    run TEXT NOT NULL,
    digest TEXT NOT NULL,
    accepted BIGINT NOT NULL CHECK (accepted IN (0, 1)),
    dataset_digest TEXT NOT NULL,
    test_digest TEXT NOT NULL,
    spec_hash TEXT NOT NULL,
    trainer_image TEXT NOT NULL,
    report TEXT NOT NULL,
    registered_at BIGINT NOT NULL,
    PRIMARY KEY (namespace_uid, model, version),
    UNIQUE (namespace_uid, run_uid),
    FOREIGN KEY (namespace_uid, model) REFERENCES models (namespace_uid, model),
    FOREIGN KEY (namespace_uid, digest) REFERENCES blobs (namespace_uid, digest)
);
CREATE INDEX versions_by_digest ON versions (namespace_uid, model, digest);
CREATE INDEX versions_by_inputs
    ON versions (namespace_uid, model, dataset_digest, spec_hash, trainer_image);

CREATE TABLE aliases (
    namespace_uid TEXT NOT NULL,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (namespace_uid, model, alias),
    FOREIGN KEY (namespace_uid, model, version) REFERENCES versions (namespace_uid, model, version)
);

-- Who pointed which alias at what. from_version is NULL for an alias that did not exist.
CREATE TABLE alias_history (
    seq INTEGER PRIMARY KEY,
    namespace_uid TEXT NOT NULL,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    from_version BIGINT,
    to_version BIGINT NOT NULL,
    who TEXT NOT NULL,
    who_uid TEXT NOT NULL,
    why TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX alias_history_by_who ON alias_history (namespace_uid, model, alias, who_uid);

CREATE TABLE deployments_history (
    seq INTEGER PRIMARY KEY,
    namespace_uid TEXT NOT NULL,
    deployment_uid TEXT NOT NULL,
    deployment TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,
    digest TEXT NOT NULL,
    generation BIGINT NOT NULL,
    result TEXT NOT NULL,
    why TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX deployments_history_by_deployment
    ON deployments_history (namespace_uid, deployment_uid, seq);

-- The newest progress of each Job.
CREATE TABLE progress (
    job_uid TEXT NOT NULL PRIMARY KEY,
    namespace_uid TEXT NOT NULL,
    progress TEXT NOT NULL,
    posted_at BIGINT NOT NULL
);

-- What the pods of each Job reported at their end; a success is never replaced.
CREATE TABLE results (
    job_uid TEXT NOT NULL PRIMARY KEY,
    namespace_uid TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    succeeded BIGINT NOT NULL CHECK (succeeded IN (0, 1)),
    message TEXT NOT NULL,
    posted_at BIGINT NOT NULL
);

-- What happened stays as it was written.
CREATE TRIGGER alias_history_no_update BEFORE UPDATE ON alias_history
BEGIN SELECT RAISE(ABORT, 'alias_history is append-only'); END;
CREATE TRIGGER alias_history_no_delete BEFORE DELETE ON alias_history
BEGIN SELECT RAISE(ABORT, 'alias_history is append-only'); END;
CREATE TRIGGER deployments_history_no_update BEFORE UPDATE ON deployments_history
BEGIN SELECT RAISE(ABORT, 'deployments_history is append-only'); END;
CREATE TRIGGER deployments_history_no_delete BEFORE DELETE ON deployments_history
BEGIN SELECT RAISE(ABORT, 'deployments_history is append-only'); END;
CREATE TRIGGER versions_no_update BEFORE UPDATE ON versions
BEGIN SELECT RAISE(ABORT, 'a registered version is never changed'); END;
CREATE TRIGGER models_only_up BEFORE UPDATE ON models WHEN NEW.last_version <= OLD.last_version
BEGIN SELECT RAISE(ABORT, 'version numbers only go up'); END;
CREATE TRIGGER models_no_delete BEFORE DELETE ON models
BEGIN SELECT RAISE(ABORT, 'version numbers are never used twice'); END;
