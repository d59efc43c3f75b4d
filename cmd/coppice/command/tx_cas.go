package command

// txCAS is "coppice tx cas".
var txCAS = txOp{
	use:     "cas KEY equals EXPECTED VALUE | KEY absent VALUE",
	short:   "Write a value if the key has the expected one, or has none",
	example: "coppice tx cas lock absent me\n  coppice tx cas lock equals me you",
}
