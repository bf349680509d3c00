"""Correct and tested, but without evidence yet: no recipe of segpref uses these.

Every class has its reference, its formula and its test, and is named in YAML by its import path, such
as ``segpref.contrib.objectives.SimPO``. It may change or go between versions. Nothing outside this
package imports it, so it can be read, changed and left out without a look at the rest. What a recipe
comes to rely on moves out of here.
"""
