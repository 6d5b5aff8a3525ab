-- One text for both databases.

-- What no version writes or reads any more.
ALTER TABLE runs DROP COLUMN checkpoint_input;

-- What a person asks for by two words at once, and what each claim and each look at the queue asks: nothing is read through.
CREATE INDEX runs_of_status ON runs (status, started_ms DESC);
CREATE INDEX runs_of_task_status ON runs (task, status, started_ms DESC);
CREATE INDEX slots_of_task_outcome ON slots (task, outcome, slot_ms DESC);
CREATE INDEX attempts_of_task_outcome ON attempts (task, outcome, started_ms DESC);
