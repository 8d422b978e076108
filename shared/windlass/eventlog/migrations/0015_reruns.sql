-- Runs that keep what ended well before.
ALTER TABLE jobs ADD COLUMN redo json;             -- positions that are still to be gone through, and their rows of before
ALTER TABLE composites ADD COLUMN again uuid;      -- the row whose children that ended well are kept
ALTER TABLE each_items ADD COLUMN redo json;       -- the children that the elements are for, if these are not all
