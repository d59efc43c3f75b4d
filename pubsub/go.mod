module github.com/coppice-go/coppice/pubsub

go 1.25

require (
	github.com/coppice-go/coppice/supervisor v0.1.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	pgregory.net/rapid v1.3.0
)

require (
	github.com/thejerf/suture/v4 v4.0.6 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)
