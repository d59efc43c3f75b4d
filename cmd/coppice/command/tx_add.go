package command

// txAdd is "coppice tx add".
var txAdd = txOp{
	use:     "add KEY DELTA",
	short:   "Add a whole number to a counter",
	example: "coppice tx add visits 1\n  coppice tx add balance -- -5",
}
