"""Reading what a torch file describes without running it.

A pickle is a program. Here is an interpreter of the few instructions that weights need: it makes numbers, texts, lists
and mappings, and notes for each tensor where its bytes lie. It calls nothing that a file names: names are compared with
a table. What is made is bounded before it is made. All this runs in a process of its own (`process`), which has a limit
on memory and time besides and imports the standard library only, so that it starts at once.
"""
