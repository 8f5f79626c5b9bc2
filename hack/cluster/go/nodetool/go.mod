module paddle-operator.local/tools/nodetool

go 1.26
