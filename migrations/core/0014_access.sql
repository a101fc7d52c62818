-- Who may talk and who decides: users and their identities, codes, approvals, rules, questions, the record of all that.
-- Four tables get new values for a CHECK, or lose a reference (the host speaks outside of sessions too): their rows step
-- aside while they are made anew. References are not enforced during a migration.

ALTER TABLE wirings ADD COLUMN sender_scope TEXT NOT NULL DEFAULT 'all' CHECK (sender_scope IN ('all', 'known'));
ALTER TABLE wirings ADD COLUMN ignored TEXT NOT NULL DEFAULT 'drop' CHECK (ignored IN ('drop', 'accumulate'));
ALTER TABLE wirings ADD COLUMN bots INTEGER NOT NULL DEFAULT 0 CHECK (bots IN (0, 1));

CREATE TABLE inbound_events_aside AS SELECT * FROM inbound_events;
DROP TABLE inbound_events;
CREATE TABLE inbound_events (
    id                  INTEGER PRIMARY KEY,
    channel_type        TEXT NOT NULL,
    instance            TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    platform_message_id TEXT NOT NULL,
    event_kind          TEXT NOT NULL,
    thread_id           TEXT,
    is_group            INTEGER NOT NULL CHECK (is_group IN (0, 1)),
    mentions_bot        INTEGER NOT NULL CHECK (mentions_bot IN (0, 1)),
    sender_handle       TEXT NOT NULL,
    sender_name         TEXT NOT NULL,
    sender_is_bot       INTEGER NOT NULL CHECK (sender_is_bot IN (0, 1)),
    chat_name           TEXT NOT NULL,
    text                TEXT NOT NULL,
    refers_to           TEXT,
    sent_at             TEXT NOT NULL,
    received_at         TEXT NOT NULL,
    status              TEXT NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'routed', 'dropped', 'set_aside', 'held')),
    reason              TEXT,                       -- why it was dropped or set aside, or its last try failed
    tries               INTEGER NOT NULL DEFAULT 0, -- how often routing it has failed
    value               TEXT,                       -- what the host gave the button that was pressed
    attachments         TEXT NOT NULL DEFAULT '[]', -- JSON: the files that came with it
    approval_id         TEXT,                       -- held: until this is decided
    UNIQUE (channel_type, instance, platform_id, platform_message_id, event_kind)
) STRICT;
INSERT INTO inbound_events (
    id, channel_type, instance, platform_id, platform_message_id, event_kind, thread_id, is_group, mentions_bot,
    sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at, received_at, status, reason,
    tries, value, attachments
)
SELECT
    id, channel_type, instance, platform_id, platform_message_id, event_kind, thread_id, is_group, mentions_bot,
    sender_handle, sender_name, sender_is_bot, chat_name, text, refers_to, sent_at, received_at, status, reason,
    tries, value, attachments
FROM inbound_events_aside;
DROP TABLE inbound_events_aside;
CREATE INDEX inbound_events_new ON inbound_events (channel_type, instance, platform_id, id) WHERE status = 'new';
CREATE INDEX inbound_events_set_aside ON inbound_events (id) WHERE status = 'set_aside';
CREATE INDEX inbound_events_held ON inbound_events (approval_id) WHERE status = 'held';

CREATE TABLE routes_aside AS SELECT * FROM routes;
DROP TABLE routes;
CREATE TABLE routes (
    event_id   INTEGER NOT NULL REFERENCES inbound_events (id),
    wiring_id  INTEGER NOT NULL REFERENCES wirings (id),
    outcome    TEXT NOT NULL
        CHECK (outcome IN ('written', 'context', 'waiting', 'not_engaged', 'denied', 'held')),
    reason     TEXT NOT NULL,
    session_id TEXT REFERENCES sessions (id),
    message_id TEXT,
    approval_id TEXT,
    trigger    INTEGER NOT NULL DEFAULT 1 CHECK (trigger IN (0, 1)),  -- 0: it wakes nobody, also when it waits first
    PRIMARY KEY (event_id, wiring_id)
) STRICT, WITHOUT ROWID;
INSERT INTO routes (
    event_id, wiring_id, outcome, reason, session_id, message_id
)
SELECT
    event_id, wiring_id, outcome, reason, session_id, message_id
FROM routes_aside;
DROP TABLE routes_aside;
CREATE INDEX routes_waiting ON routes (session_id, event_id) WHERE outcome = 'waiting';
CREATE INDEX routes_session ON routes (session_id, wiring_id, trigger) WHERE session_id IS NOT NULL;
CREATE INDEX routes_message ON routes (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX routes_held ON routes (approval_id) WHERE outcome = 'held';

CREATE TABLE deliveries_aside AS SELECT * FROM deliveries;
DROP TABLE deliveries;
CREATE TABLE deliveries (
    session_id   TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    out_id       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    thread_id    TEXT,
    reply_to     TEXT,                             -- the platform's id of the message being answered
    content      TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'sending', 'sent', 'dead', 'dropped', 'unknown')),
    attempts     INTEGER NOT NULL DEFAULT 0,
    tries_from   INTEGER NOT NULL DEFAULT 0,       -- attempts up to here are of before it was sent again
    next_try_at  TEXT,
    reason       TEXT,                             -- why it waits, was dropped, is dead or unknown
    decision     TEXT CHECK (decision IN ('resend', 'drop')),  -- what an operator said last
    receipt      TEXT NOT NULL DEFAULT '[]',       -- JSON: the platform's message ids
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    not_before   TEXT,                             -- not to be sent before; holds nothing up
    card         TEXT,                             -- what its buttons are known by; NULL: it can have none
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO deliveries (
    session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content, status,
    attempts, tries_from, next_try_at, reason, decision, receipt, created_at, changed_at, not_before, card
)
SELECT
    session_id, seq, out_id, kind, channel_type, instance, platform_id, thread_id, reply_to, content, status,
    attempts, tries_from, next_try_at, reason, decision, receipt, created_at, changed_at, not_before, card
FROM deliveries_aside;
DROP TABLE deliveries_aside;
CREATE INDEX deliveries_open ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_dead ON deliveries (changed_at) WHERE status = 'dead';
CREATE INDEX deliveries_unknown ON deliveries (changed_at) WHERE status = 'unknown';
CREATE INDEX deliveries_card ON deliveries (card) WHERE card IS NOT NULL;

CREATE TABLE actions_aside AS SELECT * FROM actions;
DROP TABLE actions;
CREATE TABLE actions (
    session_id   TEXT NOT NULL REFERENCES sessions (id),
    seq          INTEGER NOT NULL,                  -- the outbound row's number
    out_id       TEXT NOT NULL,
    name         TEXT NOT NULL,
    arguments    TEXT NOT NULL,                     -- JSON, as the container wrote it: checked when it is carried out
    channel_type TEXT,                              -- where answers go, by the host's own knowledge; NULL: nowhere
    instance     TEXT,
    platform_id  TEXT,
    thread_id    TEXT,
    asked_at     TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'held', 'done', 'refused', 'failed')),
    reason       TEXT,                              -- why it was refused or failed; of a done one, what to say
    notice_id    TEXT,                              -- the messages_in row that tells the agent; NULL: it is not told
    told         INTEGER NOT NULL DEFAULT 0 CHECK (told IN (0, 1)),
    created_at   TEXT NOT NULL,
    done_at      TEXT,
    approval_id  TEXT,                              -- what it was or is held for
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO actions (
    session_id, seq, out_id, name, arguments, channel_type, instance, platform_id, thread_id, asked_at, status,
    reason, notice_id, told, created_at, done_at
)
SELECT
    session_id, seq, out_id, name, arguments, channel_type, instance, platform_id, thread_id, asked_at, status,
    reason, notice_id, told, created_at, done_at
FROM actions_aside;
DROP TABLE actions_aside;
CREATE INDEX actions_open ON actions (session_id, seq) WHERE status != 'held' AND (status = 'pending' OR told = 0);
CREATE INDEX actions_approval ON actions (approval_id) WHERE approval_id IS NOT NULL;
CREATE INDEX actions_done ON actions (session_id, done_at) WHERE status IN ('refused', 'failed');

-- People as the platforms know them: <channel>:<handle>. Identities of one human share `person`, which is the lowest
-- of their numbers; a role of one counts for all.
CREATE TABLE users (
    id            INTEGER PRIMARY KEY,
    user_id       TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    person        INTEGER NOT NULL,
    first_seen_at TEXT NOT NULL,
    last_seen_at  TEXT NOT NULL                    -- to the day: it is not written for each message
) STRICT;
CREATE INDEX users_person ON users (person);

-- Where a person can be written to directly, as far as it is known.
CREATE TABLE dms (
    user_id      TEXT NOT NULL,
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    thread_id    TEXT,
    learned_at   TEXT NOT NULL,
    PRIMARY KEY (user_id, instance)
) STRICT, WITHOUT ROWID;

-- What people wrote that nobody was told of: counted, by who, where and why.
CREATE TABLE dropped_messages (
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    agent_group  TEXT NOT NULL,                    -- its folder; empty: none was concerned
    count        INTEGER NOT NULL,
    first_at     TEXT NOT NULL,
    last_at      TEXT NOT NULL,
    PRIMARY KEY (channel_type, instance, platform_id, user_id, reason, agent_group)
) STRICT, WITHOUT ROWID;
CREATE INDEX dropped_messages_last ON dropped_messages (last_at);

-- One-time codes: whoever types one in a direct message is who was meant. Only their hashes are kept.
CREATE TABLE codes (
    id           INTEGER PRIMARY KEY,
    hash         TEXT NOT NULL UNIQUE,
    purpose      TEXT NOT NULL CHECK (purpose IN ('owner', 'link')),
    channel_type TEXT,                             -- where it has to be typed; NULL: anywhere
    user_id      TEXT,                             -- 'link': who asked for it
    created_by   TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    expires_at   TEXT NOT NULL,
    status       TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'used', 'burned', 'expired')),
    used_by      TEXT,
    closed_at    TEXT
) STRICT;
CREATE INDEX codes_open ON codes (expires_at) WHERE status = 'open';

-- Wrong codes by who typed them: one guess, then silence for a while.
CREATE TABLE code_guesses (
    user_id TEXT PRIMARY KEY,
    count   INTEGER NOT NULL,
    last_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What waits for a person's yes, and what became of it. `shown` is the card's text, `payload` is what runs: both stay
-- as they were when it was asked.
CREATE TABLE approvals (
    id             TEXT PRIMARY KEY,               -- short: people type it
    kind           TEXT NOT NULL,
    subject        TEXT NOT NULL,                  -- what it is about; one open approval a kind and subject
    agent_group_id INTEGER REFERENCES agent_groups (id) ON DELETE SET NULL,
    shown          TEXT NOT NULL,
    options        TEXT NOT NULL,                  -- JSON: the labels of its buttons
    payload        TEXT NOT NULL,                  -- JSON
    requested_by   TEXT NOT NULL,                  -- a user, or agent:<session>
    channel_type   TEXT,                           -- where it was asked for; NULL: nowhere
    instance       TEXT,
    platform_id    TEXT,
    thread_id      TEXT,
    session_id     TEXT,                           -- the asking agent's
    seq            INTEGER,                        -- its request
    created_at     TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    status         TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'approved', 'denied', 'expired', 'failed', 'withdrawn')),
    choice         TEXT,                           -- the label that was chosen
    decided_by     TEXT,
    decided_at     TEXT,
    reason         TEXT,                           -- given with a no, or why it failed
    outcome        TEXT,                           -- what became of it, in a sentence
    digest         TEXT NOT NULL                   -- of `shown` and `payload`
) STRICT;
CREATE UNIQUE INDEX approvals_open ON approvals (kind, subject) WHERE status = 'pending';
CREATE INDEX approvals_request ON approvals (session_id, seq) WHERE session_id IS NOT NULL;
CREATE INDEX approvals_expires ON approvals (expires_at) WHERE status = 'pending';

-- Whom an approval was shown to: one card each, a message of the host.
CREATE TABLE approval_cards (
    approval_id TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    user_id     TEXT NOT NULL,
    seq         INTEGER,                           -- its delivery of the session 'host'; NULL: it could not be asked
    asked_at    TEXT NOT NULL,
    problem     TEXT,                              -- why it did not reach them
    PRIMARY KEY (approval_id, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX approval_cards_seq ON approval_cards (seq) WHERE seq IS NOT NULL;

-- Presses and typed decisions that were refused: each person is told once a card.
CREATE TABLE approval_refusals (
    approval_id TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY (approval_id, user_id)
) STRICT, WITHOUT ROWID;

-- Decisions for next time.
CREATE TABLE rules (
    id             INTEGER PRIMARY KEY,
    kind           TEXT NOT NULL,                  -- the approval's kind that it spares
    effect         TEXT NOT NULL CHECK (effect IN ('allow', 'deny')),
    agent_group_id INTEGER REFERENCES agent_groups (id) ON DELETE CASCADE,  -- NULL: in all
    subject        TEXT,                           -- NULL: whatever it is about
    created_by     TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    expires_at     TEXT,                           -- NULL: never
    uses           INTEGER NOT NULL DEFAULT 0,
    last_used_at   TEXT,
    ended_at       TEXT,
    ended_by       TEXT
) STRICT;
CREATE INDEX rules_live ON rules (kind, subject) WHERE ended_at IS NULL;

-- Questions of agents, by the message that asks. The first allowed answer is the answer.
CREATE TABLE questions (
    session_id   TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    out_id       TEXT NOT NULL,
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,
    thread_id    TEXT,
    asked_at     TEXT NOT NULL,
    status       TEXT NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'answered', 'closed')),
    answer       TEXT,
    answered_by  TEXT,
    answered_at  TEXT,
    event_id     INTEGER,                          -- the event that is the answer
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX questions_open ON questions (channel_type, instance, platform_id) WHERE status = 'open';
CREATE INDEX questions_event ON questions (event_id) WHERE event_id IS NOT NULL;

-- Who did what, where, when, and what came of it. Rows are only ever added, and forgotten with age.
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    who     TEXT NOT NULL,                         -- a user, agent:<session>, local:<user of the machine>, host
    what    TEXT NOT NULL,                         -- roles.create, approval.approved, tasks.create …
    about   TEXT NOT NULL,                         -- a user, an approval, a chat …; empty: nothing in particular
    origin  TEXT NOT NULL,                         -- the chat, or 'local'; empty: none
    outcome TEXT NOT NULL,                         -- done, allowed, held, denied, refused, failed
    details TEXT NOT NULL                          -- JSON
) STRICT;
CREATE INDEX audit_log_about ON audit_log (about);
CREATE INDEX audit_log_at ON audit_log (at);

-- Where the agents of a group may send beside the chats of their sessions, and what they call it.
CREATE TABLE destinations (
    id                 INTEGER PRIMARY KEY,
    agent_group_id     INTEGER NOT NULL REFERENCES agent_groups (id),
    name               TEXT NOT NULL,
    messaging_group_id INTEGER NOT NULL REFERENCES messaging_groups (id),
    created_by         TEXT NOT NULL,
    created_at         TEXT NOT NULL,
    UNIQUE (agent_group_id, name)
) STRICT;

-- While there is a row nothing is started and nothing is sent, but for what the host itself says.
CREATE TABLE paused (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    by           TEXT NOT NULL,
    at           TEXT NOT NULL,
    cut          TEXT NOT NULL,                    -- JSON: what was running; empty: nobody has looked yet
    channel_type TEXT,                             -- where that is said; NULL: it was asked for at the machine
    instance     TEXT,
    platform_id  TEXT,
    thread_id    TEXT
) STRICT;

-- What ended turns took, as their runners told: one row a turn, forgotten with age.
CREATE TABLE turn_costs (
    session_id    TEXT NOT NULL,
    turn_id       TEXT NOT NULL,
    agent_group   TEXT NOT NULL,                   -- its folder
    ended_at      TEXT NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    cost_usd      REAL NOT NULL,                   -- 0: the model's service names no price
    PRIMARY KEY (session_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_costs_ended ON turn_costs (ended_at);
