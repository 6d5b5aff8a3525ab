-- One text for both databases.

-- What no version writes or reads any more.
ALTER TABLE runs DROP COLUMN checkpoint_input;
