-- The database of a folder that 0.1.0 served (schema 3), as that version wrote it; only the times are
-- other ones. `tests/engine/folder_of_0_1_0.py` makes the files that belong to it.

CREATE TABLE uploads (
  "id" TEXT NOT NULL PRIMARY KEY, "principal" TEXT NOT NULL, "dialect" TEXT NOT NULL,
  "state" TEXT NOT NULL, "offset" INTEGER NOT NULL, "length" INTEGER, "name" TEXT NOT NULL,
  "created_at" REAL NOT NULL, "expires_at" REAL, "conflict" TEXT NOT NULL DEFAULT 'rename',
  "media_type" TEXT DEFAULT NULL, "metadata" BLOB NOT NULL DEFAULT X'',
  "final_name" TEXT DEFAULT NULL, "final_size" INTEGER DEFAULT NULL,
  "outcome" BLOB NOT NULL DEFAULT X'', "extra" BLOB NOT NULL DEFAULT X'',
  "version" INTEGER NOT NULL DEFAULT 1, "binding" TEXT DEFAULT NULL,
  "notify_at" REAL DEFAULT NULL
);
CREATE INDEX uploads_by_expiry ON uploads (expires_at, id) WHERE expires_at IS NOT NULL;
CREATE INDEX uploads_by_state ON uploads (state, id);
CREATE UNIQUE INDEX uploads_bound
  ON uploads (binding)
  WHERE binding IS NOT NULL AND state IN ('open', 'completing');
CREATE INDEX uploads_by_binding ON uploads (binding, created_at) WHERE binding IS NOT NULL;
CREATE INDEX uploads_to_notify ON uploads (notify_at, id) WHERE notify_at IS NOT NULL;
INSERT INTO uploads VALUES (
  'unfinished------------', '', 'tus', 'open', 4000, 10240, 'a.bin', 1.7e9, 1e10, 'rename',
  'text/plain', CAST('filename YS5iaW4=' AS BLOB), NULL, NULL, X'',
  CAST('{"filename": "a.bin", "completes_by_length": true}' AS BLOB), 2, NULL, NULL
);
INSERT INTO uploads VALUES (
  'ietf------------------', '', 'ietf', 'open', 1000, 10240, 'ietf.bin', 1.7e9, 1e10, 'refuse',
  NULL, X'', NULL, NULL, X'',
  CAST('{"completes_by_length": false, "preconditions": {"if_match": null, "if_none_match": [], "if_unmodified_since": null}, "expected": [["sha-256", "e96760a87768717bcebcfd25ddc7d46b4dbc95a4b0014def080c08539f7d90d0"]], "wanted": ["sha-256"]}' AS BLOB),
  2, NULL, NULL
);
INSERT INTO uploads VALUES (
  'published-------------', '', 'tus', 'completing', 10240, 10240, 'published.bin', 1.7e9, 1e10,
  'rename', NULL, X'', 'published.bin', NULL, CAST('{"digests": []}' AS BLOB),
  CAST('{"completes_by_length": true}' AS BLOB), 3, NULL, NULL
);
INSERT INTO uploads VALUES (
  'unpublished-----------', '', 'tus', 'completing', 10240, 10240, 'unpublished.bin', 1.7e9, 1e10,
  'rename', NULL, X'', 'unpublished.bin', NULL, CAST('{"digests": []}' AS BLOB),
  CAST('{"completes_by_length": true}' AS BLOB), 3, NULL, NULL
);
INSERT INTO uploads VALUES (
  'pending---------------', '', 'tus', 'complete', 10240, 10240, 'pending.bin', 1.7e9, 1e10,
  'rename', NULL, X'', 'pending.bin', 10240,
  CAST('{"digests": [], "tag": "998feb-2800-18ec11db1cd5b5d2", "identity": "998feb-6b0a30e0.b02c174", "mtime_ns": 1795829984193263058, "replaced": false, "duration": 0.008540153503417969, "callback": {"failures": 1, "last": "RuntimeError: the database is down", "returned": []}}' AS BLOB),
  CAST('{"completes_by_length": true}' AS BLOB), 5, NULL, 1.7e9
);
INSERT INTO uploads VALUES (
  'whole-----------------', '', 'raw', 'completing', 10240, 10240, 'whole.bin', 1.7e9, 1e10,
  'refuse', NULL, X'', 'whole.bin', NULL,
  CAST('{"digests": [["sha-256", "e96760a87768717bcebcfd25ddc7d46b4dbc95a4b0014def080c08539f7d90d0"]]}' AS BLOB),
  CAST('{}' AS BLOB), 1, NULL, 1.7e9
);
INSERT INTO uploads VALUES (
  'part0-----------------', '', 'tus', 'complete', 5000, 5000, 'p0', 1.7e9, 1e10, 'rename', NULL,
  X'', NULL, NULL, X'',
  CAST('{"completes_by_length": true, "partial": true, "finals": ["final-----------------"]}' AS BLOB),
  4, NULL, NULL
);
INSERT INTO uploads VALUES (
  'part1-----------------', '', 'tus', 'complete', 5000, 5000, 'p1', 1.7e9, 1e10, 'rename', NULL,
  X'', NULL, NULL, X'',
  CAST('{"completes_by_length": true, "partial": true, "finals": ["final-----------------"]}' AS BLOB),
  4, NULL, NULL
);
INSERT INTO uploads VALUES (
  'part-open-------------', '', 'tus', 'open', 100, 5000, 'p2', 1.7e9, 1e10, 'rename', NULL, X'',
  NULL, NULL, X'', CAST('{"completes_by_length": true, "partial": true}' AS BLOB), 2, NULL, NULL
);
INSERT INTO uploads VALUES (
  'final-----------------', '', 'tus', 'open', 10000, 15000, 'final.bin', 1.7e9, 1e10, 'rename',
  NULL, X'', NULL, NULL, X'',
  CAST('{"completes_by_length": true, "parts": ["part0-----------------", "part1-----------------", "part-open-------------"]}' AS BLOB),
  3, NULL, NULL
);
INSERT INTO uploads VALUES (
  'done------------------', '', 'tus', 'complete', 10240, 10240, 'done.bin', 1.7e9, 1e10,
  'rename', NULL, X'', 'done.bin', 10240,
  CAST('{"digests": [], "tag": "998017-2800-18ec11dba20ab0db", "identity": "998017-6b0a30e2.19210ece", "mtime_ns": 1795829986428104923, "replaced": false, "duration": 0.008347034454345703}' AS BLOB),
  CAST('{"completes_by_length": true}' AS BLOB), 4, NULL, NULL
);
INSERT INTO uploads VALUES (
  'failed----------------', '', 'tus', 'failed', 10240, 10240, 'failed.bin', 1.7e9, 1e10,
  'refuse', NULL, X'', NULL, NULL,
  CAST('{"code": "FB_DIGEST_MISMATCH", "message": "The bytes that arrived do not have the digest that was announced."}' AS BLOB),
  CAST('{"completes_by_length": true, "expected": [["sha-256", "7878787878787878787878787878787878787878787878787878787878787878"]]}' AS BLOB),
  4, NULL, NULL
);
PRAGMA application_id = 1178747225;
PRAGMA user_version = 3;
