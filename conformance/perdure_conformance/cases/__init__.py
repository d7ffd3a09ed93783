"""The cases, a module an area. Each takes a `Bench`; what came stands left of a comparison, what is expected right."""
