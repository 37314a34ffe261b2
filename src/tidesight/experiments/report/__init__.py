"""From runs on disk to one page and one table that people show to others.

folders -> evidence.py (a run, reduced) -> comparing.py (repeats, subjects, sections) -> charts and tables -> page.py
"""
