"""Scripted road users of route worlds: what a scenario type puts on the road, and how it moves on the device.

`compile.compile_scenario` turns a scenario of a route file into a `script.Script`; `scripted.stack_scripts`
turns the scripts of many routes into one agent model. `background.background_traffic` is plain traffic round a
route, to join with them (`script.join_scripts`).
"""

from perlsim.worlds.actors.script import Actor, Script, join_scripts

__all__ = ["Actor", "Script", "join_scripts"]
