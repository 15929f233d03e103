#!/bin/sh
# Compile Faiss into a Python wheel: AVX2, BLAS, CUDA for the GPUs of g5, g6, p4 and p5.
#
#   build_faiss.sh OUTPUT_DIR
#
# Runs in the builder stage of the Dockerfile and on any Linux machine with g++, cmake (3.24 or newer),
# ninja, swig 4, OpenBLAS's headers, numpy, pip and setuptools for the interpreter at hand, and nvcc unless
# FAISS_GPU=OFF. What comes out is checked by test_faiss.py before it is handed over. Environment:
#
#   FAISS_SOURCE   a directory with Faiss's sources; else those of the pinned tag are fetched and their
#                  checksum, which stands for the commit, is compared
#   FAISS_GPU      ON (default) or OFF
#   CUDA_ARCHS     CMake's list of CUDA architectures
#   PYTHON         the interpreter that the wheel is for (default python3)
#   JOBS           compilers at once (default: one for each processor, as memory allows)
#   BUILD_DIR      where to build (default: a temporary directory, removed afterwards)
set -eu

FAISS_VERSION=1.15.1
FAISS_SHA256=7b583010cc3c0a778b909a1beecbc5a4bd42f415d82af734b2c05d5eaaca0ffa
FAISS_URL=https://github.com/facebookresearch/faiss/archive/refs/tags/v$FAISS_VERSION.tar.gz
# A100 (p4) 8.0, A10G (g5) 8.6, L4 and L40S (g6, g6e) 8.9, H100 and H200 (p5) 9.0. The last one also as PTX,
# which newer GPUs compile for themselves.
ALL_ARCHS='80-real;86-real;89-real;90'
# A CUDA translation unit takes this much memory to compile.
GIB_A_JOB=3

die() {
    echo "build_faiss: $*" >&2
    exit 1
}

need() {
    command -v "$1" >/dev/null 2>&1 || die "$1 is missing ($2)"
}

[ $# -eq 1 ] || die "usage: build_faiss.sh OUTPUT_DIR"
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
gpu=${FAISS_GPU:-ON}
archs=${CUDA_ARCHS:-$ALL_ARCHS}
case $gpu in ON | OFF) ;; *) die "FAISS_GPU is ON or OFF, not $gpu" ;; esac
case $archs in *[!0-9a-z\;-]*) die "CUDA_ARCHS is a list like $ALL_ARCHS" ;; esac
need "$python" "PYTHON names the interpreter"
need g++ "a C++ compiler"
need cmake "3.24 or newer"
need ninja "the build tool"
need swig "4 or newer, for the Python extension"
[ "$gpu" = OFF ] || need nvcc "the CUDA toolkit; FAISS_GPU=OFF builds without"
{ "$python" -c 'import setuptools, numpy' && "$python" -m pip --version >/dev/null; } ||
    die "$python needs numpy, pip and setuptools"

if [ -n "${BUILD_DIR:-}" ]; then
    build=$BUILD_DIR
    mkdir -p "$build"
else
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
fi
mkdir -p "$1"
output=$(cd "$1" && pwd)

source=${FAISS_SOURCE:-}
if [ -n "$source" ]; then
    [ -f "$source/faiss/python/setup.py" ] || die "$source holds no sources of Faiss"
    source=$(cd "$source" && pwd)
else
    need curl "to fetch the sources; FAISS_SOURCE names a directory that has them"
    archive=$build/faiss.tar.gz
    curl --fail --silent --show-error --location --retry 3 --max-time 300 --output "$archive" "$FAISS_URL" ||
        die "the sources of $FAISS_VERSION cannot be fetched"
    echo "$FAISS_SHA256  $archive" | sha256sum --check --quiet - || die "the sources are not those of $FAISS_VERSION"
    source=$build/source
    mkdir -p "$source"
    tar -xzf "$archive" -C "$source" --strip-components=1
fi

if [ -z "${JOBS:-}" ]; then
    memory_gib=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
    JOBS=$((memory_gib / GIB_A_JOB))
    [ "$JOBS" -le "$(nproc)" ] || JOBS=$(nproc)
    [ "$JOBS" -ge 1 ] || JOBS=1
fi

echo "build_faiss: $source, GPU $gpu, $JOBS jobs"
# A loader that finds AVX-512 on its processor and no library for it takes the AVX2 one.
cmake -S "$source" -B "$build/make" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release \
    -DFAISS_OPT_LEVEL=avx2 \
    -DFAISS_ENABLE_GPU="$gpu" \
    -DFAISS_ENABLE_CUVS=OFF \
    -DFAISS_ENABLE_PYTHON=ON \
    -DFAISS_ENABLE_EXTRAS=OFF \
    -DBUILD_TESTING=OFF \
    -DBUILD_SHARED_LIBS=OFF \
    -DBLA_VENDOR=OpenBLAS \
    -DCMAKE_CUDA_ARCHITECTURES="$archs" \
    -DPython_EXECUTABLE="$(command -v "$python")"
cmake --build "$build/make" --parallel "$JOBS" --target swigfaiss_avx2

rm -rf "$build/wheel" "$build/repaired" "$build/installed"
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-index \
    --wheel-dir "$build/wheel" "$build/make/faiss/python"
wheel=$(find "$build/wheel" -name '*.whl')
[ -n "$wheel" ] || die "no wheel came out"
# With its BLAS inside, the wheel needs no package of the system. CUDA's libraries come with the image.
if command -v auditwheel >/dev/null 2>&1 && command -v patchelf >/dev/null 2>&1; then
    auditwheel repair --exclude 'libcu*' --exclude 'libnv*' --exclude 'libgomp*' \
        --wheel-dir "$build/repaired" "$wheel"
    wheel=$(find "$build/repaired" -name '*.whl')
else
    echo "build_faiss: no auditwheel and patchelf here; the wheel needs OpenBLAS where it is installed" >&2
fi

# The tests of the build: the wheel alone, unpacked, not the source tree.
"$python" -m pip install --quiet --no-deps --no-index --target "$build/installed" --upgrade "$wheel"
PYTHONPATH=$build/installed${PYTHONPATH:+:$PYTHONPATH} "$python" "$here/test_faiss.py" --gpu "$gpu"
cp "$wheel" "$output/"
echo "build_faiss: $output/$(basename "$wheel")"
