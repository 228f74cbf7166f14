"""The envelope, the mirrored headers and the sealed ids, held against tables and an independent reading of JSON."""
