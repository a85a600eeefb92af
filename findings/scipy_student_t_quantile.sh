#!/usr/bin/env bash
# The quantile of a Student's t at a level near 0 is plus infinity.
#
# Versions: scipy 1.17.1 (1.18.1 alike; 1.15.0 gives nan at 0, and a number of the right sign near it), Python 3.11.
#
# Behaviour: ``scipy.special.stdtrit(df, 0)`` is inf, and so is ``stdtrit(3, 1e-300)``: the lower tail comes out as the upper one.
# ``scipy.stats.t.ppf``, which treats the level 0 apart, takes the second from there, and is not monotone.
#
# Expected: -inf at 0, and about -1e100 at 1e-300 for 3 degrees of freedom.
#
# Output seen:
#     special.stdtrit(3, 0) = inf
#     special.stdtrit(3, 1e-300) = inf
#     stats.t(3).ppf(1e-300) = inf
#     special.stdtrit(3, 1e-100) = -2.2e+33
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet numpy==2.4.6 scipy==1.17.1
cd "$folder"
bin/python - <<'EOF'
import sys

def show() -> str | None:
    """Prints what happens; returns what is no longer so."""
    import math

    from scipy import special, stats

    seen = {
        "special.stdtrit(3, 0)": special.stdtrit(3.0, 0.0),
        "special.stdtrit(3, 1e-300)": special.stdtrit(3.0, 1e-300),
        "stats.t(3).ppf(1e-300)": stats.t(3).ppf(1e-300),
        "special.stdtrit(3, 1e-100)": special.stdtrit(3.0, 1e-100),
    }
    for what, value in seen.items():
        print(f"{what} = {value:.2g}")
    changed = [what for what, value in list(seen.items())[:3] if value != math.inf]
    return f"no longer inf: {', '.join(changed)}" if changed else None


sys.exit(show())
EOF
