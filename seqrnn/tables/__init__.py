"""Tables of the user's own data: files to arrays and back. It imports no torch; pandas and pyarrow come late.

files.py          finds the files that a path names: a file, a folder's pattern, the members of a zip file
blocks.py         reads a file as columns of arrow, one block of rows after another
cells.py          turns cells into texts, numbers, categories and times, and names every one that is wrong
reading.py        reads a file into columns of numbers, categories and times
times.py          parses times, finds the distance between timesteps, checks order, duplicates and gaps
roles.py          decides what each column is: time, group, target, covariate
sequences.py      orders rows into sequences, resamples, fills gaps
preprocessing.py  what is done to a table before a network reads it, as a document that is stored with the run;
                  turns outputs of the network back into the units of the user
encoding.py       turns sequences into what a network reads
fitting.py        fits that document on training rows, and on nothing else
splits.py         which rows are trained on, validated on and tested on
counting.py       which predictions count: the values that they predict are there
opening.py        all of this in turn, from the settings of a task to a data set
dataset.py        the data set: the timesteps of all sequences as arrays
recursion.py      recursive forecasts: predicted values become inputs
numbers.py        notations of numbers
output_names.py   names of columns that predictions are written under
settings.py       what a user may say about a table
synthetic.py      generated tables, for smoke=true
"""
