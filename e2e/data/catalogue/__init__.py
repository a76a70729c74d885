"""Real French catalogues in the layout of the challenge's files, made from Debian's archive.

Only the standard library, and Pillow where pictures are drawn. Nothing here may depend on the
order of files or on the clock: the same archive and arguments give the same bytes.
"""
