"""Pages, pictures and films of scenes.

`perlsim.view.sources` opens stores and runs, `perlsim.view.pack` makes one scene small, `perlsim.view.page` puts
scenes into a self-contained HTML page together with the player in ``assets``, `perlsim.view.drawing` and
`perlsim.view.picture` make PNG, GIF and MP4, and `perlsim.view.rerun_export` writes recordings for the Rerun viewer.
"""
