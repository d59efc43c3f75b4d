package command

// txPut is "coppice tx put".
var txPut = txOp{
	use:     "put KEY VALUE",
	short:   "Write a value",
	example: "coppice tx put greeting hello",
}
