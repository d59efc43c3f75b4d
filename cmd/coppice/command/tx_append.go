package command

// txAppend is "coppice tx append".
var txAppend = txOp{
	use:     "append KEY MEMBER",
	short:   "Add a member to a set",
	example: "coppice tx append colours green",
}
