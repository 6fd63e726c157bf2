"""Examinations of driving policies on the routes of public benchmarks, in vector space.

`scene` makes scenes of routes, which have no log; `criteria` judges each step; `drive` runs all routes in closed loop;
`records` writes what happened in the form of CARLA's Leaderboard. What comes out is named after the suite
(`bench2drive-vector`, `dos-vector`): it is not a result in CARLA.
"""
