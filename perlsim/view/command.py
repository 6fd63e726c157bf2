"""``perlsim view``: pages, pictures, films and Rerun recordings of stores and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perlsim.errors import PerlsimError
from perlsim.output import write_file
from perlsim.view.page import build_page
from perlsim.view.sources import Key, Side, choose, open_sides

if TYPE_CHECKING:
    from perlsim.cli import View as Arguments


def run(args: Arguments) -> int:
    """Runs the command and prints what was written.

    Returns:
        Exit code 0.

    Raises:
        PerlsimError: nothing to show or to write, an unknown policy or scene, a missing package.
    """
    if not args.paths:
        raise PerlsimError("nothing to show", field="PATH", remedy="name a store or a run")
    if not (args.out or args.png or args.gif or args.mp4 or args.rerun):
        raise PerlsimError(
            "nothing to write", remedy="name a page with -o, or a file with --png, --gif, --mp4 or --rerun"
        )
    policies = [name for name in (args.policy or "").split(",") if name]
    sides = open_sides(args.paths, policies)
    keys, notices = choose(sides, args.scene, args.scenes)
    for notice in notices:
        print(notice)
    if args.out:
        # Two folders or two policies are named in order to be compared.
        compare = len(args.paths) > 1 or len(policies) > 1
        page = build_page(sides, keys, notices, title=args.title, compare=compare)
        write_file(args.out, page, "-o")
        print(f"{args.out}: {len(keys)} scenes, {len(page.encode()) / 1e6:.1f} MB")
    if args.png or args.gif or args.mp4 or args.rerun:
        _draw(args, sides, keys[0])
    return 0


def _draw(args: Arguments, sides: Sequence[Side], key: Key) -> None:
    """Pictures, films and recordings of a scene: pictures show the first two sides that have it."""
    from perlsim.view.picture import write_film, write_picture

    shown = [side for side in sides if key in side.numbers]
    if args.png:
        write_picture(args.png, shown[:2], key, args.time)
    for path in (args.gif, args.mp4):
        if path:
            write_film(path, shown[:2], key, args.fps)
    if args.rerun:
        from perlsim.view.rerun_export import write_recording

        write_recording(args.rerun, shown, key)
    for path in (args.png, args.gif, args.mp4, args.rerun):
        if path:
            print(f"{path}: {key[2]}")
