# A stand-in for a public image whose program is a Debian package: redis, nginx.
FROM isotrope-standin-debian
ARG PACKAGE
RUN apt-get update && apt-get install -y --no-install-recommends ${PACKAGE} && rm -rf /var/lib/apt/lists/*
