package main

// The columns of the table.
const (
	plain      = "plain Go"
	ours       = "coppice"
	sutures    = "suture"
	protoactor = "protoactor"
	otp        = "OTP"
)

var columns = []string{plain, ours, sutures, protoactor, otp}

// row is one kind of work, and the programs that do it.
type row struct {
	name     string
	work     int // operations in one round
	programs []program
}

// program does the work of a row and notes in m what it took.
type program struct {
	by  string
	run func(m *meter) error
}

// children is how many children the rows B and D have.
const (
	groupSize = 1000
	manyKids  = 100_000
	fanOut    = 100
	filters   = 1000
	window    = 1024 // events under way in row F, and room in a queue of row E
)

// rows returns the rows in the order of the table.
func rows(erlang *otpNode) []row {
	list := []row{
		{"A restart, error", 5000, []program{{plain, plainRestart(false)}, {ours, oursRestart(false)},
			{sutures, sutureRestart(false)}}},
		{"A restart, panic", 2000, []program{{plain, plainRestart(true)}, {ours, oursRestart(true)},
			{sutures, sutureRestart(true)}, {protoactor, protoRestart}}},
		{"B one_for_all of 1,000, a group", 40, []program{{plain, plainGroup}, {ours, oursGroup}}},
		{"C temporary child", 20_000, []program{{plain, plainTemporary}, {ours, oursTemporary},
			{sutures, sutureTemporary}, {protoactor, protoTemporary}}},
		{"D 100,000 children", manyKids, []program{{plain, plainMany}, {ours, oursMany}, {sutures, sutureMany},
			{protoactor, protoMany}}},
		{"E call, 1 caller", 30_000, []program{{plain, plainCall(1)}, {ours, oursCall(1)},
			{protoactor, protoCall(1)}}},
		{"E call, 64 callers", 60_000, []program{{plain, plainCall(64)}, {ours, oursCall(64)},
			{protoactor, protoCall(64)}}},
		{"E cast 1 to 1", 400_000, []program{{plain, plainCast(1)}, {ours, oursCast(1)}, {protoactor, protoCast(1)}}},
		{"E cast 8 to 1", 400_000, []program{{plain, plainCast(8)}, {ours, oursCast(8)}, {protoactor, protoCast(8)}}},
		{"F fan-out 100, a delivery", 20 * window, []program{{plain, plainFanOut(fanOut)}, {ours, oursFanOut(fanOut)},
			{protoactor, protoFanOut(fanOut)}}},
		{"F 1,000 filters, an event", 20 * window, []program{{plain, plainFilters}, {ours, oursFilters},
			{protoactor, protoFilters}}},
	}

	for i := range list {
		if p := erlang.program(list[i].name); p != nil {
			list[i].programs = append(list[i].programs, program{otp, p})
		}
	}

	return list
}
