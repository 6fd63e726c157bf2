"""Route files, dense routes over a town's lanes, and the catalogue of scenario types.

`load.load` reads any route file and leads its routes along the lanes; `catalogue.SCENARIO_TYPES` says what a
file may ask of each type of scenario.
"""
