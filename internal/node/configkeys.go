package node

import (
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/xrash/smetrics"
)

// mistyped is by how many letters a setting may be off to be taken for another.
const mistyped = 2

// meant is the setting that an unknown one was likely to be; empty where there is none.
func meant(key toml.Key) (best string) {
	off := mistyped + 1
	for _, known := range settings(reflect.TypeFor[Config](), nil) {
		if len(known) != len(key) {
			continue
		}
		sum := 0
		spelled := make([]string, len(key))
		for i, part := range known {
			if spelled[i] = part; part == anyName {
				spelled[i] = key[i]
				continue
			}
			if len(key[i]) > 2*len(part)+mistyped {
				sum = off
				break
			}
			sum += smetrics.WagnerFischer(key[i], part, 1, 1, 1)
		}
		if sum < off {
			best, off = strings.Join(spelled, "."), sum
		}
	}
	return best
}

// anyName stands for what the operator names: a host, for example.
const anyName = "*"

// settings are all that a table can hold, and its tables.
func settings(t reflect.Type, prefix toml.Key) (keys []toml.Key) {
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("toml")
		if tag == "" || tag == "-" {
			continue
		}
		key, typ := append(prefix[:len(prefix):len(prefix)], tag), t.Field(i).Type
		keys = append(keys, key)
		if typ.Kind() == reflect.Map {
			key, typ = append(key[:len(key):len(key)], anyName), typ.Elem()
		}
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct {
			keys = append(keys, settings(typ, key)...)
		}
	}
	return keys
}
