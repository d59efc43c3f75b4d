package command

// txRequire is "coppice tx require".
var txRequire = txOp{
	use:     "require KEY equals VALUE | KEY exists | KEY absent",
	short:   "Succeed only if the condition holds",
	example: "coppice tx require lock equals me",
}
