"""`kubectl paddle`: looks at canaries and commands them. Pure Python in one file; needs kubectl beside it."""
