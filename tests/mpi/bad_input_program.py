"""Command lines that fail, one after the other in one job: ``bad_input_program.py FOLDER``.

The folder holds ``cases.json``, a list of words per case, and is where they are carried out. Prints for each case what
every rank has to say.
"""

from __future__ import annotations

import json
import os
import sys

from flexpie_mpi.commands import parse
from flexpie_mpi.commands.infer import Inference
from flexpie_mpi.core.errors import FlexPieError
from flexpie_mpi.runtime.mpi import MPITransport, start
from flexpie_mpi.session.survival import Kept


def sentence(transport: MPITransport, words: list[str]) -> str:
    _, args = parse(words, "")
    try:
        Inference(transport, args, Kept(None)).run()
    except FlexPieError as error:
        return str(error)
    return "no error"


def main() -> None:
    os.chdir(sys.argv[1])
    with open("cases.json", encoding="utf-8") as file:
        cases = json.load(file)
    with start() as transport:
        said = [transport.all_gather(sentence(transport, words)) for words in cases]
        if transport.rank == 0:
            print(json.dumps(said))


main()
