package kv_test

import (
	"fmt"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kv"
)

// Stock moves to an order, but only if there is enough of it.
func Example() {
	state := &backendtest.State{Keys: map[string]string{"stock": "3"}}
	body, err := kv.Encode(
		kv.CAS([]byte("stock"), []byte("3"), []byte("2")),
		kv.Append([]byte("orders"), []byte("order-17")),
		kv.Read([]byte("orders")),
	)
	if err != nil {
		fmt.Println(err)
		return
	}

	data, err := state.Execute(kv.New(), body)
	if err != nil {
		fmt.Println(err)
		return
	}

	answers, err := kv.DecodeResult(data)
	fmt.Printf("%s %v\n", answers[0].Value, err)

	_, err = state.Execute(kv.New(), body) // the stock is 2 now
	fmt.Println(err)
	// Output:
	// order-17 <nil>
	// operation 1 (cas "stock"): condition does not hold: the value is "2", want "3"
}

func ExampleParseText() {
	ops, err := kv.ParseText("# open the account once\ncas account absent \"Ann Lee\"\nadd balance 100\n")
	fmt.Print(kv.FormatText(ops...), err, "\n")
	_, err = kv.ParseText("add balance lots")
	fmt.Println(err)
	// Output:
	// cas account absent "Ann Lee"
	// add balance 100
	// <nil>
	// malformed operations: line 1, column 13: DELTA is "lots", want a whole number of int64
}
