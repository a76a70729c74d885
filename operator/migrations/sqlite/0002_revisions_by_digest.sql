-- A version names its snapshot by digest.
CREATE INDEX dataset_revisions_by_digest ON dataset_revisions (namespace_uid, manifest_digest, seq);
