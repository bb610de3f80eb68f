-- What every episode begins with. AUTOINCREMENT: the id of a deleted task is never given again.
CREATE TABLE lists (name TEXT PRIMARY KEY);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    list TEXT NOT NULL REFERENCES lists (name),
    title TEXT NOT NULL,
    due TEXT NOT NULL DEFAULT '',
    finished INTEGER NOT NULL DEFAULT 0
);
INSERT INTO lists (name) VALUES ('inbox'), ('later');
INSERT INTO tasks (list, title, due, finished) VALUES
    ('inbox', 'read the news', '', 0),
    ('later', 'learn to swim', '', 0);
