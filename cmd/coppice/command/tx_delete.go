package command

// txDelete is "coppice tx delete".
var txDelete = txOp{
	use:     "delete KEY",
	short:   "Remove a key",
	example: "coppice tx delete greeting",
}
