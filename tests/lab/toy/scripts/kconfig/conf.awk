# SPDX-License-Identifier: GPL-2.0-or-later
# Reads Kconfig, then a .config of requested lines, and prints the .config that follows from both:
# unknown symbols and those whose dependency is not met are dropped, the rest get their default.
# usage: awk -v release=6.12.0-toy -f conf.awk Kconfig .config

function met(expression,   part, count, i, name, wanted) {
	if (expression == "")
		return 1
	count = split(expression, part, /[ \t]*&&[ \t]*/)
	for (i = 1; i <= count; i++) {
		name = part[i]
		wanted = "y"
		if (sub(/^![ \t]*/, "", name))
			wanted = "n"
		if ((name in value ? value[name] : "n") != wanted)
			return 0
	}
	return 1
}

FNR == 1 { file++ }

file == 1 && $1 == "config" { symbol = $2; order[++symbols] = symbol; fallback[symbol] = "n"; text = 0 }
file == 1 && $1 == "help" { text = 1 }
file == 1 && text { next }
file == 1 && $1 == "bool" && NF > 1 { prompt[symbol] = 1 }
file == 1 && $1 == "default" { fallback[symbol] = $2 }
file == 1 && $1 == "depends" && $2 == "on" {
	sub(/^[ \t]*depends on[ \t]*/, "")
	needs[symbol] = needs[symbol] == "" ? $0 : needs[symbol] " && " $0
}

file == 2 && match($0, /^CONFIG_[A-Za-z0-9_]+=/) {
	name = substr($0, 8, RLENGTH - 8)
	asked = substr($0, RLENGTH + 1)
	if (asked == "y" || asked == "n")
		request[name] = asked
	else
		printf ".config:%d:warning: symbol value '%s' invalid for %s\n", FNR, asked, name > "/dev/stderr"
}
file == 2 && /^# CONFIG_[A-Za-z0-9_]+ is not set$/ { request[substr($2, 8)] = "n" }

END {
	# A dependency may be defined further down, so it takes as many rounds as chains are long.
	for (round = 1; round <= symbols; round++)
		for (i = 1; i <= symbols; i++) {
			name = order[i]
			answer = prompt[name] && name in request ? request[name] : fallback[name]
			value[name] = met(needs[name]) ? answer : "n"
		}
	print "#"
	print "# Automatically generated file; DO NOT EDIT."
	print "# Linux/x86 " release " Kernel Configuration"
	print "#"
	for (i = 1; i <= symbols; i++) {
		name = order[i]
		if (value[name] == "y")
			print "CONFIG_" name "=y"
		else if (prompt[name] && met(needs[name]))
			print "# CONFIG_" name " is not set"
	}
}
