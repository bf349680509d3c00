"""How far masks of new images can be trusted, by a judge and what labelled images showed of it.

``config`` is the settings, ``measuring`` what is measured of each mask, ``calibration`` the way from a
judge's score to Dice, ``reference`` what labelled images taught, ``ranking`` the list, worst first.
"""
