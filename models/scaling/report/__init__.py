"""The report of a folder of runs: one HTML file with all plots in it, and its tables as CSV.

Drawn from the folder alone, at any time, finished or not; nothing is fetched from elsewhere.
"""
