package eyes_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/eyes"
)

// A program with a tree shows it in a browser.
func Example() {
	root, err := supervisor.New(supervisor.Spec{Name: "shop", Build: supervisor.Children(
		supervisor.Child{ID: "till", Start: supervisor.Start(idle)},
	)})
	if err != nil {
		panic(err)
	}
	run, err := root.Start(context.Background())
	if err != nil {
		panic(err)
	}

	eye := eyes.New(root, eyes.Options{})
	http.Handle("/tree/", http.StripPrefix("/tree", eye))
	server := httptest.NewServer(http.DefaultServeMux) // in a program: http.ListenAndServe

	res, err := server.Client().Get(server.URL + "/tree/")
	if err != nil {
		panic(err)
	}
	page, err := io.ReadAll(res.Body)
	fmt.Println(err, strings.Contains(string(page), "till"))

	res.Body.Close()
	server.Close()
	fmt.Println(run.Stop(context.Background()))
	// Output:
	// <nil> true
	// <nil>
}
