-- Whether something was said already is asked by what it is called, before anything is said: not by reading all that was.

CREATE INDEX deliveries_by_out_id ON deliveries (session_id, out_id);
