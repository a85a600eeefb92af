#!/usr/bin/env bash
# Fields beyond the header's are dropped without a word if they stand in the first rows of a chunk of read_csv.
#
# Versions: pandas 2.2.2, numpy 2.0.2, Python 3.11.
#
# Behaviour: with ``index_col=False`` a row of three fields below a header of two is an error in the midst of a chunk. In the
# first row of a chunk, which ``chunksize`` decides, the third field is dropped, and nothing is said.
#
# Expected: the same error wherever the row is.
#
# Output seen:
#     midst of a chunk: ParserError
#     first row of a chunk: [[1, 2], [3, 4], [5, 6]]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet pandas==2.2.2 numpy==2.0.2
cd "$folder"
bin/python -W ignore - <<'EOF'
import io
import sys

import pandas as pd


def rows(text, chunk):
    try:
        parts = [*pd.read_csv(io.StringIO(text), chunksize=chunk, index_col=False)]
        return pd.concat(parts).to_numpy().tolist()
    except pd.errors.ParserError:
        return "ParserError"


text = "a,b\n1,2\n3,4\n5,6,7\n"
midst, first = rows(text, 3), rows(text, 2)
print("midst of a chunk:", midst)
print("first row of a chunk:", first)
sys.exit(0 if midst == "ParserError" and first == [[1, 2], [3, 4], [5, 6]] else "it behaves otherwise now")
EOF
