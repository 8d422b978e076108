-- What was refused stays so, though the message of it comes again when it could be carried out.
ALTER TABLE jobs ADD COLUMN refused text NOT NULL DEFAULT ''; -- the last requests that were refused, with blanks between
