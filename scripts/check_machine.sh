#!/usr/bin/env bash
# Prints the Python that the virtual environment is to be made with. If the machine lacks something that the build or
# MindSpore needs, names all of it in one line and fails.
# Usage: scripts/check_machine.sh [PYTHON]
set -uo pipefail
asked=${1:-python3}
missing=()

in_range() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

python=
candidates=("$asked")
[ "$asked" = python3 ] && candidates+=(python3.12 python3.11 python3.10)
for candidate in "${candidates[@]}"; do
  if in_range "$candidate"; then
    python=$candidate
    break
  fi
done

if [ -z "$python" ]; then
  missing+=("Python 3.10 to 3.12 ($asked is $("$asked" --version 2>/dev/null || echo absent); make PYTHON=... picks another)")
else
  "$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("the venv module of $python (python3-venv)")
  "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || missing+=("libgomp.so.1 (libgomp1)")
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '#include <optional>\nint main() { return std::optional<int>{0}.value(); }\n' >"$folder/probe.cc"
compiler=
for candidate in ${CXX:-c++ g++ clang++}; do
  if "$candidate" -std=c++17 "$folder/probe.cc" -o "$folder/probe" 2>/dev/null; then
    compiler=$candidate
    break
  fi
done
[ -n "$compiler" ] || missing+=("a C++17 compiler (tried ${CXX:-c++, g++, clang++}; CXX=... picks another)")

if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s' "${missing[0]}" >&2
  [ ${#missing[@]} -eq 1 ] || printf '; %s' "${missing[@]:1}" >&2
  printf '\n' >&2
  exit 1
fi
echo "$python"
