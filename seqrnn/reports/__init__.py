"""The report of runs: one HTML file that compares them, opens from disk, and loads nothing from elsewhere.

gathering     run directories, of sweeps or not -> results
significance  each condition compared with the best one
curves        learning curves of conditions, thinned
thumbnails    small copies of pictures
numbers       numbers as they stand in columns
forest        the small drawing in each row
links         addresses of files, relative to the report
ranking       the conditions of a task -> rows of the leaderboard, and data of its plots
content       everything that the page shows
page          what the page shows -> HTML (page.html.j2, page.css, tables.js, plots.js, page.js)
writing       run directories -> report.html, for the command and for sweeps
"""
