-- The central database as it is after all core migrations. A test compares the two, table by table: change this file
-- together with a new migration, never alone.

CREATE TABLE schema_migrations (
    set_name   TEXT NOT NULL,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at TEXT NOT NULL,
    PRIMARY KEY (set_name, name)
) STRICT;

CREATE TABLE install (
    singleton  INTEGER PRIMARY KEY CHECK (singleton = 1),
    id         TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE agent_groups (
    id         INTEGER PRIMARY KEY,
    folder     TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    provider   TEXT,                        -- NULL: the host's setting
    model      TEXT,                        -- NULL: the host's setting
    created_at TEXT NOT NULL,
    deleted_at TEXT                         -- NULL: it is in use
) STRICT;

CREATE TABLE messaging_groups (
    id             INTEGER PRIMARY KEY,
    channel_type   TEXT NOT NULL,
    instance       TEXT NOT NULL,
    platform_id    TEXT NOT NULL,
    is_group       INTEGER NOT NULL CHECK (is_group IN (0, 1)),
    name           TEXT NOT NULL,
    unknown_sender TEXT NOT NULL CHECK (unknown_sender IN ('public', 'strict', 'request_approval')),
    created_at     TEXT NOT NULL,
    UNIQUE (channel_type, instance, platform_id)
) STRICT;

-- Chats that go on under another id: what came in under the old one, or names it still, is meant for the new one.
CREATE TABLE moved_chats (
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    platform_id  TEXT NOT NULL,                    -- what it was called
    moved_to     TEXT NOT NULL,                    -- what it is called now, however often it has moved
    moved_at     TEXT NOT NULL,
    PRIMARY KEY (channel_type, instance, platform_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wirings (
    id                 INTEGER PRIMARY KEY,
    messaging_group_id INTEGER NOT NULL REFERENCES messaging_groups (id),
    agent_group_id     INTEGER NOT NULL REFERENCES agent_groups (id),
    engage_mode        TEXT NOT NULL CHECK (engage_mode IN ('pattern', 'mention', 'mention-sticky')),
    engage_pattern     TEXT NOT NULL,
    session_mode       TEXT NOT NULL CHECK (session_mode IN ('shared', 'per-thread', 'agent-shared')),
    priority           INTEGER NOT NULL,
    created_at         TEXT NOT NULL,
    sender_scope       TEXT NOT NULL DEFAULT 'all' CHECK (sender_scope IN ('all', 'known')),
    ignored            TEXT NOT NULL DEFAULT 'drop' CHECK (ignored IN ('drop', 'accumulate')),
    bots               INTEGER NOT NULL DEFAULT 0 CHECK (bots IN (0, 1)),  -- whether other bots may speak here
    UNIQUE (messaging_group_id, agent_group_id)
) STRICT;
CREATE INDEX wirings_in_order ON wirings (messaging_group_id, priority, id);

-- Users are <channel>:<handle>. A role without an agent group is global.
CREATE TABLE roles (
    user_id        TEXT NOT NULL,
    role           TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    agent_group_id INTEGER REFERENCES agent_groups (id),
    granted_at     TEXT NOT NULL,
    CHECK (role != 'owner' OR agent_group_id IS NULL)
) STRICT;
CREATE UNIQUE INDEX roles_once ON roles (user_id, role, ifnull(agent_group_id, 0));

CREATE TABLE sessions (
    id                 TEXT PRIMARY KEY,
    agent_group_id     INTEGER NOT NULL REFERENCES agent_groups (id),
    messaging_group_id INTEGER REFERENCES messaging_groups (id),  -- NULL: shared by the agent's chats
    thread_id          TEXT,
    created_at         TEXT NOT NULL,
    last_active_at     TEXT NOT NULL,
    due_at             TEXT,                        -- when there is work; NULL: nothing waits
    out_cursor         INTEGER NOT NULL DEFAULT 0,  -- outbound rows up to here are in the ledger
    ack_cursor         INTEGER NOT NULL DEFAULT 0,  -- acks up to this change are taken over
    lease              TEXT,                        -- the container that may be alive
    runtime            TEXT,
    runtime_state      TEXT NOT NULL DEFAULT '{}'   -- JSON: what the runtime needs to find it again
) STRICT;
CREATE UNIQUE INDEX sessions_key
    ON sessions (agent_group_id, ifnull(messaging_group_id, 0), ifnull(thread_id, ''));
CREATE INDEX sessions_due ON sessions (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sessions_leased ON sessions (lease) WHERE lease IS NOT NULL;
CREATE INDEX sessions_chat ON sessions (messaging_group_id);

-- Attempts at messages that ended because the host stopped the container in order: they do not count.
CREATE TABLE uncounted_attempts (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    message_id TEXT NOT NULL,
    attempt    INTEGER NOT NULL,                   -- messages_in.tries when it was claimed
    PRIMARY KEY (session_id, message_id, attempt)
) STRICT, WITHOUT ROWID;

-- What came in. Unique on what the platform calls it, so a repeat changes nothing.
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
    attempts            INTEGER NOT NULL DEFAULT 0, -- how often routing it has failed
    value               TEXT,                       -- what the host gave the button that was pressed
    attachments         TEXT NOT NULL DEFAULT '[]', -- JSON: the files that came with it
    approval_id         TEXT,                       -- held: until this is decided
    parts               TEXT NOT NULL DEFAULT '[]', -- JSON, see channel_api.Part
    album               TEXT,                       -- what the platform calls the files that it is one of, until joined
    UNIQUE (channel_type, instance, platform_id, platform_message_id, event_kind)
) STRICT;
CREATE INDEX inbound_events_new ON inbound_events (channel_type, instance, platform_id, id) WHERE status = 'new';
CREATE INDEX inbound_events_set_aside ON inbound_events (id) WHERE status = 'set_aside';
CREATE INDEX inbound_events_refers_to ON inbound_events (channel_type, instance, platform_id, refers_to, event_kind)
    WHERE refers_to IS NOT NULL;
CREATE INDEX inbound_events_held ON inbound_events (approval_id) WHERE status = 'held';

-- What the pieces of an album were before they were joined: a deletion names one of them only.
CREATE TABLE album_pieces (
    event_id    INTEGER PRIMARY KEY REFERENCES inbound_events (id) ON DELETE CASCADE,
    joined_into INTEGER NOT NULL REFERENCES inbound_events (id) ON DELETE CASCADE,
    content     TEXT NOT NULL,
    is_deleted  INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1))
) STRICT;
CREATE INDEX album_pieces_joined ON album_pieces (joined_into, event_id);

-- What each wiring made of an event. 'waiting': its mailbox refused for now and is tried again. 'held': until somebody
-- decided whether the sender may talk here. 'context': written, and it wakes nobody.
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
    thread_id  TEXT,                               -- the event's
    decided_at TEXT,                               -- when it last became so; NULL: before this was kept
    PRIMARY KEY (event_id, wiring_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX routes_waiting ON routes (session_id, event_id) WHERE outcome = 'waiting';
CREATE INDEX routes_session ON routes (session_id, wiring_id, trigger) WHERE session_id IS NOT NULL;
CREATE INDEX routes_message ON routes (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX routes_held ON routes (approval_id) WHERE outcome = 'held';
CREATE INDEX routes_thread ON routes (session_id, wiring_id, thread_id)
    WHERE trigger = 1 AND session_id IS NOT NULL;
CREATE INDEX routes_written ON routes (session_id, event_id) WHERE outcome = 'written';
CREATE INDEX routes_wiring ON routes (wiring_id, outcome);

-- The last turn over a message of a session's mailbox.
CREATE TABLE message_turns (
    session_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    turn_id    TEXT NOT NULL,
    began_at   TEXT,                               -- NULL: it had ended when it was first seen
    ended_at   TEXT,                               -- NULL: it runs
    outcome    TEXT CHECK (outcome IN ('completed', 'failed', 'interrupted')),
    error      TEXT,                               -- why it failed or was interrupted
    changed_at TEXT NOT NULL,
    PRIMARY KEY (session_id, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_turns_changed ON message_turns (changed_at);

-- What goes out: the ledger. Numbers above zero are those of the agent's rows; below zero are the host's own notices.
-- Of the session 'host', which is none, all is the host's own: what it says to people outside of any conversation.
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
    attempts_before_resend INTEGER NOT NULL DEFAULT 0,  -- attempts up to here are of before it was sent again
    next_attempt_at TEXT,
    reason       TEXT,                             -- why it waits, was dropped, is dead or unknown
    decision     TEXT CHECK (decision IN ('resend', 'drop')),  -- what an operator said last
    receipt      TEXT NOT NULL DEFAULT '[]',       -- JSON: the platform's message ids
    created_at   TEXT NOT NULL,
    changed_at   TEXT NOT NULL,
    not_before   TEXT,                             -- not to be sent before; holds nothing up
    card_key     TEXT,                             -- what its buttons are known by; NULL: it can have none
    is_detached_from_thread INTEGER NOT NULL DEFAULT 0
        CHECK (is_detached_from_thread IN (0, 1)), -- its thread takes nothing any more
    turn_id      TEXT,                             -- the turn that it was sent in; NULL: none, or before this was kept
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_open ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_dead ON deliveries (changed_at) WHERE status = 'dead';
CREATE INDEX deliveries_unknown ON deliveries (session_id, channel_type, instance, platform_id)
    WHERE status = 'unknown';
CREATE INDEX deliveries_questions ON deliveries (session_id, seq) WHERE kind = 'question' AND length(content) <= 20000;
CREATE INDEX deliveries_card ON deliveries (card_key) WHERE card_key IS NOT NULL;
CREATE INDEX deliveries_turn ON deliveries (session_id, turn_id) WHERE turn_id IS NOT NULL;
CREATE INDEX deliveries_by_out_id ON deliveries (session_id, out_id);
CREATE INDEX deliveries_settled ON deliveries (session_id, changed_at) WHERE status IN ('sent', 'dropped', 'dead');
CREATE INDEX deliveries_messages ON deliveries (session_id, channel_type, instance, platform_id, seq)
    WHERE kind IN ('chat', 'card', 'question', 'file') AND status != 'dropped';

CREATE TABLE delivery_attempts (
    session_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    ended_at   TEXT,
    outcome    TEXT,                               -- sent, or the class of the error
    error      TEXT,
    PRIMARY KEY (session_id, seq, number),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq)
) STRICT, WITHOUT ROWID;

-- The parts of a message that is longer than the platform takes, until it is sent: the next try goes on where it was.
CREATE TABLE delivery_parts (
    session_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    text       TEXT NOT NULL,
    plain      TEXT NOT NULL,                      -- the same in words alone, for when the platform refuses the markup
    receipt    TEXT,                               -- JSON: the platform's message ids; NULL: not sent
    PRIMARY KEY (session_id, seq, number),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The idempotency keys under which messages were sent, on platforms that may give up on a message after they took it:
-- by its key the platform's report, which comes minutes or days later, finds the message.
CREATE TABLE idempotency_keys (
    session_id TEXT NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT NOT NULL,
    PRIMARY KEY (session_id, seq, key),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX idempotency_keys_by_key ON idempotency_keys (key);

-- Messages of ours that failed: what such a platform took and gave up on later, and what was given up before it was taken
-- (with the attempt's number in the place of the id). The message is `dead` then, and whoever said it is told.
CREATE TABLE late_failures (
    session_id          TEXT NOT NULL,
    seq                 INTEGER NOT NULL,
    platform_message_id TEXT NOT NULL,
    reason              TEXT NOT NULL,
    failed_at           TEXT NOT NULL,
    notified            INTEGER NOT NULL DEFAULT 0,  -- who said it knows
    PRIMARY KEY (session_id, seq, platform_message_id),
    FOREIGN KEY (session_id, seq) REFERENCES deliveries (session_id, seq) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX late_failures_unnotified ON late_failures (session_id, seq) WHERE notified = 0;

-- One row a model call that passed the gateway.
CREATE TABLE model_calls (
    id                  INTEGER PRIMARY KEY,
    session_id          TEXT NOT NULL,
    model               TEXT,
    started_at          TEXT NOT NULL,
    duration_ms         INTEGER NOT NULL,
    status              INTEGER NOT NULL,          -- HTTP status; 0: no answer
    tokens_in           INTEGER NOT NULL,
    tokens_out          INTEGER NOT NULL,
    tokens_cached       INTEGER NOT NULL,
    tokens_cache_written INTEGER NOT NULL,
    error               TEXT,
    agent_group         TEXT NOT NULL DEFAULT '',  -- its folder; empty: not known
    tokens_cache_written_1h INTEGER NOT NULL DEFAULT 0, -- part of tokens_cache_written
    cost_usd            REAL,                      -- NULL: no price is known
    turn_id             TEXT                       -- NULL: no turn has ended since; empty: from before this was kept
) STRICT;
CREATE INDEX model_calls_session ON model_calls (session_id, started_at);
CREATE INDEX model_calls_started ON model_calls (started_at);
CREATE INDEX model_calls_turn ON model_calls (session_id, turn_id);

-- What agents are to do, or to send, at a time: once or again and again. The central database is the truth; the
-- session's mailbox gets a message when a task falls due.
CREATE TABLE tasks (
    id                TEXT PRIMARY KEY,
    session_id        TEXT NOT NULL,               -- gone: the task is cancelled when it next falls due
    kind              TEXT NOT NULL CHECK (kind IN ('agent', 'message')),
    content           TEXT NOT NULL,               -- the prompt, or the JSON content of the message to send
    out_kind          TEXT,                        -- kind 'message': what content is
    cron              TEXT,                        -- NULL: once
    timezone          TEXT NOT NULL,
    next_due          TEXT,
    run_requested_at  TEXT,                        -- a run beside the schedule that somebody asked for
    status            TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'cancelled', 'done')),
    misfire           TEXT NOT NULL CHECK (misfire IN ('latest', 'all', 'skip')),
    failures_in_a_row INTEGER NOT NULL DEFAULT 0,
    reason            TEXT,                        -- why it is paused, cancelled or done
    channel_type      TEXT,                        -- where answers go; NULL: the session's default
    instance          TEXT,
    platform_id       TEXT,
    thread_id         TEXT,
    created_by        TEXT NOT NULL,
    created_at        TEXT NOT NULL,
    changed_at        TEXT NOT NULL,
    is_relative       INTEGER NOT NULL DEFAULT 0,  -- next_due is so long after it was asked for: no time of day
    CHECK (status != 'active' OR next_due IS NOT NULL)
) STRICT;
CREATE INDEX tasks_due ON tasks (next_due) WHERE status = 'active';
CREATE INDEX tasks_run_requested ON tasks (run_requested_at) WHERE run_requested_at IS NOT NULL;
CREATE INDEX tasks_open ON tasks (session_id, created_at, id) WHERE status IN ('active', 'paused');
CREATE INDEX tasks_ended ON tasks (changed_at) WHERE status IN ('done', 'cancelled');

-- One row a time that a task fell due and was acted upon.
CREATE TABLE task_runs (
    id            INTEGER PRIMARY KEY,
    task_id       TEXT NOT NULL REFERENCES tasks (id),
    session_id    TEXT NOT NULL,
    due           TEXT NOT NULL,
    message_id    TEXT NOT NULL,                   -- in the session's mailbox, or the delivery's own id
    decided_at    TEXT NOT NULL,
    started_at    TEXT,                            -- written to the session; NULL: about to be, or never was
    ended_at      TEXT,
    outcome       TEXT CHECK (outcome IN ('completed', 'failed', 'skipped')),
    cost_usd      REAL,
    tokens_in     INTEGER,
    tokens_out    INTEGER,
    tokens_cached INTEGER,
    error         TEXT,                            -- why it failed or was skipped
    UNIQUE (task_id, due)
) STRICT;
CREATE INDEX task_runs_open ON task_runs (session_id) WHERE ended_at IS NULL;
CREATE INDEX task_runs_unstarted ON task_runs (id) WHERE started_at IS NULL AND ended_at IS NULL;
CREATE INDEX task_runs_ended ON task_runs (ended_at) WHERE ended_at IS NOT NULL;

-- What agents ask of the host, in place of a delivery. The effect and `done` are one transaction; what the agent is
-- told of it comes after, under an id that makes a repetition harmless.
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
    requested_at TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('pending', 'held', 'done', 'refused', 'failed')),
    reason       TEXT,                              -- why it was refused or failed; of a done one, what to say
    notice_id    TEXT,                              -- the messages_in row that tells the agent; NULL: it is not told
    notified     INTEGER NOT NULL DEFAULT 0 CHECK (notified IN (0, 1)),
    created_at   TEXT NOT NULL,
    done_at      TEXT,
    approval_id  TEXT,                              -- what it was or is held for
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX actions_open ON actions (session_id, seq) WHERE status != 'held' AND (status = 'pending' OR notified = 0);
CREATE INDEX actions_approval ON actions (approval_id) WHERE approval_id IS NOT NULL;
CREATE INDEX actions_done ON actions (session_id, done_at) WHERE status IN ('refused', 'failed');
CREATE INDEX actions_settled ON actions (session_id, ifnull(done_at, created_at))
    WHERE status != 'pending' AND notified = 1;

-- How the latest turns of a session failed. While `held_until` is to come, nothing is started for it.
CREATE TABLE turn_failures (
    session_id  TEXT PRIMARY KEY REFERENCES sessions (id),
    error_class TEXT NOT NULL,
    sentence    TEXT NOT NULL,              -- for the people who write meanwhile
    since       TEXT NOT NULL,              -- the first failure in a row
    latest_at   TEXT NOT NULL,
    failures    INTEGER NOT NULL,           -- in a row
    held_until  TEXT,                       -- NULL: the session may go on
    notified_chats TEXT NOT NULL DEFAULT '[]'  -- JSON: the chats that know of the pause
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_failures_held ON turn_failures (held_until) WHERE held_until IS NOT NULL;

-- Messages of people that nothing became of in time.
CREATE TABLE late_messages (
    name        TEXT PRIMARY KEY,           -- of what is late: a message, an event, a delivery
    session_id  TEXT REFERENCES sessions (id),  -- NULL: it has not come so far
    channel     TEXT NOT NULL,
    platform_id TEXT NOT NULL,
    cause       TEXT NOT NULL,
    sentence    TEXT NOT NULL,              -- for the operator
    since       TEXT NOT NULL,              -- when it came
    found_at    TEXT NOT NULL,
    notified    INTEGER NOT NULL CHECK (notified IN (0, 1))  -- whether there is a notice to the person
) STRICT, WITHOUT ROWID;

-- What retention leaves of what it deletes.
CREATE TABLE retention_watermarks (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id),
    up_to_seq  INTEGER NOT NULL             -- of its outbound rows up to here some are on record no more
) STRICT, WITHOUT ROWID;

CREATE TABLE model_calls_by_day (
    day                  TEXT NOT NULL,
    agent_group          TEXT NOT NULL,     -- its folder; empty: not known
    model                TEXT NOT NULL,     -- empty: the call did not say
    calls                INTEGER NOT NULL,
    failed               INTEGER NOT NULL,
    tokens_in            INTEGER NOT NULL,
    tokens_out           INTEGER NOT NULL,
    tokens_cached        INTEGER NOT NULL,
    tokens_cache_written INTEGER NOT NULL,
    cost_usd             REAL NOT NULL DEFAULT 0, -- of those with a price
    unpriced             INTEGER NOT NULL DEFAULT 0, -- calls without one
    PRIMARY KEY (day, agent_group, model)
) STRICT, WITHOUT ROWID;

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
CREATE INDEX dropped_messages_user ON dropped_messages (user_id);

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
CREATE INDEX codes_closed ON codes (closed_at) WHERE closed_at IS NOT NULL;

-- Wrong codes by who typed them: one guess, then silence for a while.
CREATE TABLE code_guesses (
    user_id TEXT PRIMARY KEY,
    count   INTEGER NOT NULL,
    last_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX code_guesses_last ON code_guesses (last_at);

-- What waits for a person's approval, and its outcome. `rendered_text` is the card's text, `payload` is what runs: both
-- stay as they were when it was asked.
CREATE TABLE approvals (
    id             TEXT PRIMARY KEY,               -- short: people type it
    kind           TEXT NOT NULL,
    subject        TEXT NOT NULL,                  -- what it is about; one open approval a kind and subject
    agent_group_id INTEGER REFERENCES agent_groups (id) ON DELETE SET NULL,
    rendered_text  TEXT NOT NULL,
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
    digest         TEXT NOT NULL                   -- of `rendered_text` and `payload`
) STRICT;
CREATE UNIQUE INDEX approvals_open ON approvals (kind, subject) WHERE status = 'pending';
CREATE INDEX approvals_request ON approvals (session_id, seq) WHERE session_id IS NOT NULL;
CREATE INDEX approvals_expires ON approvals (expires_at) WHERE status = 'pending';
CREATE INDEX approvals_subject ON approvals (kind, subject, created_at);
CREATE INDEX approvals_waiting ON approvals (created_at) WHERE status = 'pending';
CREATE INDEX approvals_decided ON approvals (decided_at) WHERE status != 'pending';

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
CREATE TABLE unauthorized_decisions (
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
CREATE INDEX rules_expires ON rules (expires_at) WHERE ended_at IS NULL;
CREATE INDEX rules_ended ON rules (ended_at) WHERE ended_at IS NOT NULL;

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
CREATE INDEX questions_open ON questions (channel_type, instance, platform_id, asked_at) WHERE status = 'open';
CREATE INDEX questions_of_session ON questions (session_id) WHERE status = 'open';
CREATE INDEX questions_asked ON questions (asked_at) WHERE status != 'open';
CREATE INDEX questions_event ON questions (event_id) WHERE event_id IS NOT NULL;

-- Who did what, where, when, and what came of it. Rows are only ever added, and forgotten with age.
CREATE TABLE audit_log (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    actor   TEXT NOT NULL,                         -- a user, agent:<session>, local:<user of the machine>, host
    action  TEXT NOT NULL,                         -- roles.create, approval.approved, tasks.create …
    target  TEXT NOT NULL,                         -- a user, an approval, a chat …; empty: nothing in particular
    origin  TEXT NOT NULL,                         -- the chat, or 'local'; empty: none
    outcome TEXT NOT NULL,                         -- done, allowed, held, denied, refused, failed
    details TEXT NOT NULL                          -- JSON
) STRICT;
CREATE INDEX audit_log_target ON audit_log (target);
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
CREATE INDEX destinations_chat ON destinations (messaging_group_id);

-- While there is a row nothing is started and nothing is sent, but for what the host itself says.
CREATE TABLE paused (
    singleton    INTEGER PRIMARY KEY CHECK (singleton = 1),
    created_by   TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    interrupted_turns TEXT NOT NULL,               -- JSON: what was running; empty: nobody has looked yet
    channel_type TEXT,                             -- where that is said; NULL: it was asked for at the machine
    instance     TEXT,
    platform_id  TEXT,
    thread_id    TEXT
) STRICT;

-- While there is a row for a session, or for its agent group, no container is started for it and none of its requests
-- is carried out.
CREATE TABLE holds (
    session_id     TEXT UNIQUE REFERENCES sessions (id),
    agent_group_id INTEGER UNIQUE REFERENCES agent_groups (id),
    created_by     TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    reason         TEXT NOT NULL,                  -- for the operator
    notified_chats TEXT NOT NULL DEFAULT '[]',     -- JSON: the chats whose people know
    CHECK ((session_id IS NULL) <> (agent_group_id IS NULL))
) STRICT;

-- What ended turns took, as their runners told, beside what passed the gateway: one row a turn, forgotten with age.
CREATE TABLE turn_costs (
    session_id    TEXT NOT NULL,
    turn_id       TEXT NOT NULL,
    agent_group   TEXT NOT NULL,                   -- its folder
    ended_at      TEXT NOT NULL,
    tokens_in     INTEGER NOT NULL,
    tokens_out    INTEGER NOT NULL,
    tokens_cached INTEGER NOT NULL,
    cost_usd      REAL NOT NULL,                   -- as told; not asked for where calls passed the gateway
    gateway_calls INTEGER,                         -- that passed the gateway; NULL: from before this was compared
    gateway_tokens INTEGER,
    PRIMARY KEY (session_id, turn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX turn_costs_ended ON turn_costs (ended_at);

-- Where a channel was in its platform's stream, in words of the channel's own. One row an instance.
CREATE TABLE channel_checkpoints (
    channel_type TEXT NOT NULL,
    instance     TEXT NOT NULL,
    checkpoint   TEXT NOT NULL,
    saved_at     TEXT NOT NULL,
    PRIMARY KEY (channel_type, instance)
) STRICT, WITHOUT ROWID;
