"""The program with its words: ``modules_program.py FOLDER VERB ...``; each rank leaves the modules it has imported."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flexpie_mpi.__main__ import main
from flexpie_mpi.runtime.machine import launcher_rank

folder, words = Path(sys.argv[1]), sys.argv[2:]
try:
    code = main(words)
except SystemExit as left:
    code = left.code
(folder / f"{launcher_rank() or 0}.json").write_text(json.dumps(sorted(sys.modules)))
sys.exit(code)
