package command

// txRead is "coppice tx read".
var txRead = txOp{
	use:     "read KEY",
	short:   "Read a key in the order of transactions",
	example: "coppice tx read greeting",
}
