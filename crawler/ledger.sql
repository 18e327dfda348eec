-- The crawl's frontier and ledger. What is in flight is not written: a process that ends forgets it, and so returns it.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS category (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    depth INTEGER NOT NULL,
    path TEXT NOT NULL,                      -- JSON list of names from the start page down
    label TEXT,                              -- NULL: explored, not listed; '': only its products' titles or path tell
    explored INTEGER NOT NULL DEFAULT 0,     -- 1 read, 2 could not be read; then it is not walked either
    next_page TEXT,                          -- address of the next result page; NULL: walked to the end
    page INTEGER NOT NULL DEFAULT 1,
    problem TEXT,                            -- why it was not explored or not walked to the end
    failed INTEGER NOT NULL DEFAULT 0,       -- the problem is the network's or the server's
    held INTEGER NOT NULL DEFAULT 0          -- its label has enough without its further pages
);
CREATE TABLE IF NOT EXISTS image (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,         -- 0 to be fetched, 1 answered, 2 held: its labels have enough without it
    generation INTEGER NOT NULL DEFAULT 0,   -- of the crawl that last found it on a page: 0, then one a refresh
    sha256 BLOB,                             -- NULL: refused
    reason TEXT,
    detail TEXT,
    failed INTEGER NOT NULL DEFAULT 0,       -- the network or the server kept it from us; an earlier sha256 stays
    picture BLOB,                            -- sha256 of what was refused, if it is in picture
    -- of the answer that gave sha256 or reason, to ask whether it still holds
    etag TEXT,
    last_modified TEXT,
    final_url TEXT,
    fetched_at TEXT,
    content_type TEXT                        -- where it names another image type than the content's
);
CREATE INDEX IF NOT EXISTS image_pending ON image (host, id) WHERE done = 0;
CREATE TABLE IF NOT EXISTS product (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,                     -- '': no rule gives one
    other_label TEXT,                        -- settled: found under this one too, and [labels] conflict drops it
    image INTEGER REFERENCES image (id),
    -- where it is listed: of several places the first by category, page and position that has an image to take
    category INTEGER NOT NULL REFERENCES category (id),
    page INTEGER NOT NULL,
    position INTEGER NOT NULL,
    depth INTEGER NOT NULL,                  -- names in that category's path
    listing_url TEXT NOT NULL,
    maker TEXT NOT NULL,
    title TEXT NOT NULL,
    row TEXT,                                -- JSON: of a list, its other columns
    outcome TEXT,                            -- 'kept' or why not; NULL: not settled
    detail TEXT,
    unseen INTEGER NOT NULL DEFAULT 0,       -- taken over from the crawl before: this one did not meet it
    vanished TEXT                            -- the day on which the shop was first found not to list it any more
);
CREATE INDEX IF NOT EXISTS product_image ON product (image);
CREATE TABLE IF NOT EXISTS product_label (  -- of products found under several labels, or in several depths, only
    product INTEGER NOT NULL REFERENCES product (id),
    label TEXT NOT NULL,
    depth INTEGER NOT NULL,                  -- the deepest
    PRIMARY KEY (product, label)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sample (
    key TEXT PRIMARY KEY,
    shard INTEGER NOT NULL,
    dhash BLOB NOT NULL,
    -- where it was written and its row in an index (shards/known_rows.py); NULL: the shard was written anew since
    position INTEGER,
    packed BLOB,
    -- what the shard says of it, to know what the end of the crawl has to amend
    told INTEGER NOT NULL,                   -- hash of label, addresses, maker and title
    generation INTEGER NOT NULL,             -- below 0: -1 less it, of one that is being left out
    place TEXT NOT NULL                      -- category, page, position
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sealed (          -- what is known of a whole shard, so that it need not be read again
    shard INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS robots (
    origin TEXT PRIMARY KEY,
    text TEXT,                               -- NULL: it has none
    until REAL NOT NULL                      -- epoch seconds; a day from when it was fetched
);
CREATE TABLE IF NOT EXISTS before (          -- the products of the crawl before this refresh
    url TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    image_url TEXT,
    sha256 BLOB,
    listing_url TEXT NOT NULL,
    maker TEXT NOT NULL,
    title TEXT NOT NULL,
    kept INTEGER NOT NULL,
    vanished TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vanished (        -- all that ever vanished, and has not come back
    url TEXT PRIMARY KEY,
    day TEXT NOT NULL,
    label TEXT NOT NULL,
    maker TEXT NOT NULL,
    title TEXT NOT NULL,
    image_url TEXT,
    kept INTEGER NOT NULL                    -- its sample is still in the set
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS picture (         -- images that were left out, some of each reason, to be looked at
    sha256 BLOB PRIMARY KEY,
    reason TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS host (host TEXT PRIMARY KEY, parked_until REAL NOT NULL) WITHOUT ROWID;
