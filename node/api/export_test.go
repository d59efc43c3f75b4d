package api

// Procedures is the table of what the calls of the API need.
var Procedures = procedures
